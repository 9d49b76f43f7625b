"""What a programming language brings: its mutation operators, and how to judge its code."""
