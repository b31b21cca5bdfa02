"""
Breaking things at random, and seeing that nothing is lost: C{python -m tests.chaos}.

PostgreSQL, some nodes and a crowd of clients run as they do in earnest, in processes of their
own.  Faults come from a seed.  In the end L{tests.chaos.checker} looks at what clients were
told, at the database, at the job directories and the processes, and at a journal that the
jobs themselves keep.

It blocks, and has no reactor: there are threads for clients and faults.
"""
