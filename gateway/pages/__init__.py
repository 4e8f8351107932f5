"""Pages for people, in kk, ru and en."""
