"""The demo EHR: made-up patients, the way an EHR answers prefetch templates, and a page to try it.

Nothing here is reachable in the production profile.
"""
