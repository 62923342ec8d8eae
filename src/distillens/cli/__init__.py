"""The command line: `app` has the commands, `terminal` what a run says, `listing` what there is."""
