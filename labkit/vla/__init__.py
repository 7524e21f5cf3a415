"""The lab's robot: a small vision-language-action policy, its world, its teacher, its rollouts."""
