"""Many machines or ranks side by side: which one differs, which one is slow, which one does not answer.

A member is one rank, or one saved snapshot. Everything that does not depend on how its facts came here is pure.
"""
