"""What a payee offers: terms, sales, and offers that are made out to one buyer."""
