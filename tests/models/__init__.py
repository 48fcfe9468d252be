"""Tests of the model folders and of the room that makes them."""
