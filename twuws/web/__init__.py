"""
The web floor: HTTP for what the facade offers.
"""
