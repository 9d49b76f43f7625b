"""What runs inside the sandbox. These files import no part of curricle and nothing of a project."""
