"""Bodies of answers as structs, and the functions that make them of rows of the store; one file for each resource.

A route declares the struct of its answer. `/openapi.json` has its fields, with the texts of `:ivar` in its docstring.
"""
