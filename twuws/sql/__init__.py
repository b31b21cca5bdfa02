"""
The schema of the database: C{0001.sql} makes it, each later number upgrades it by one.
"""
