"""The text from which the tests learn their tokenizers."""

SENTENCES = [
    "Anna had a red ball. She gave the ball to Ben.",
    "Ben found a blue ball in the garden, and Anna's cat found the bell.",
    "Call now! You have won 1000 balls, 1000 bells; the garden is yours.",
]
