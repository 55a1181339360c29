"""Stand-ins for what is outside: real sockets, scripted behaviour."""
