"""The clinical gate: a draft and its reference read the same films in one Triton, and limits decide."""
