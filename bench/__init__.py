"""
What users wait for, measured beside what bounds it.  See C{README.rst}.
"""
