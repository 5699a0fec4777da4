"""Attacks on a federation, each as its paper has it, and what they cost under each rule."""
