"""Explorers: one file each, state in, scene out."""
