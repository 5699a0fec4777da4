"""A federation in virtual time: the real cores, real training, devices as they are modelled."""
