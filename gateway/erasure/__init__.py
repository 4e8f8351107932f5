"""Erasing what is personal, at somebody's request, and keeping it erased (L7, field failure 76).

`service.py` is the use case, `listing.py` the list that no backup brings back, `person.py` how a person is
looked for. The command is `qazyna erase`; docs/erasure.md says when and how.
"""
