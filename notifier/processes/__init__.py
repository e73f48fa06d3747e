"""What each process of the service is made of, and the master's list of them."""
