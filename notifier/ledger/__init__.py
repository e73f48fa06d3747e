"""What happened to every notification: the service's database, and only here."""
