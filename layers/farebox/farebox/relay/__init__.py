"""The relay: admit, forward, meter, settle."""
