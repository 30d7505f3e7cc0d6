"""Results for people: rows of figures, plain words, and one HTML page.

Imports nothing: `hagpolicy predict` wants the words (`reporting.text`) and nothing of the page.
"""
