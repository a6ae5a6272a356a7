"""Inference with trained networks, and their export."""
