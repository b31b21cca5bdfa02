"""
Tests of the conformance kit: each check passes where all is right, and finds its faults.
"""
