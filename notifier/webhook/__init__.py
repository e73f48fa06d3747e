"""HTTP to merchants, and only here: the client, and the guard that keeps it off internal addresses."""
