"""Who may go first when back ends have as much as they may have."""
