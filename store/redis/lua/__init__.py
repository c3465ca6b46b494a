"""Lua scripts of limits, a file each."""
