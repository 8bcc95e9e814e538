"""What is offered: endpoints as data, the checks that requests pass, and the forms of errors."""
