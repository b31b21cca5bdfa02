"""
Ways to find out who asks; each an L{twuws.interfaces.IAuthenticator}.
"""
