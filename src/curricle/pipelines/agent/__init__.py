"""What the stages of every coding agent share: demonstrations, rollouts, pairs, measurement."""
