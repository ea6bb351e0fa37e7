from fairmark.cli import main

main()
