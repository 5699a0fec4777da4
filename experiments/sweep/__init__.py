"""Sweeps: many simulations by one definition, to tune methods and to see what a setting does."""
