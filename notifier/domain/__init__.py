"""The pure heart: no await, no clock, no environment, no socket. Every function of time takes `now`."""
