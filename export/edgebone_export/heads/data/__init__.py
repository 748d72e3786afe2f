"""Labelled pictures that heads are fitted on."""
