"""Merchants as the processes of one machine know them: a local replica, a cache over it, and when to look again."""
