"""Versions of the model: take updates in, judge them, combine them, publish what comes of it."""
