"""What a payer spends on requests: its limits, and what it has spent where.

limits  what is refused, or asked for, before anything is signed
day     the budget of a day
report  what was spent where
"""
