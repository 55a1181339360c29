"""What touches the outside: files, the store, the network, the clock. One adapter a port."""
