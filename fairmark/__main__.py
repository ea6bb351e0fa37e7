import sys

try:
    from fairmark.cli import main

    main()
except KeyboardInterrupt:  # while modules were still being imported: nothing runs yet that would need an end
    sys.exit(130)
