"""How much each key, user and model may use: counted here, and with other gateways where a store is given."""
