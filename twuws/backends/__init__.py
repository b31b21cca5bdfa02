"""
How work is started, watched, stopped and found again: a module for each way.
"""
