"""The costs of a sweep: estimated before it (`preview`), shown during it (`progress`), counted after it (`summary`)."""
