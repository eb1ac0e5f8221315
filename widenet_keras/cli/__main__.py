"""`python -m widenet_keras.cli` is the `widenet` command."""

from widenet_keras.cli.main import main

if __name__ == "__main__":
    main()
