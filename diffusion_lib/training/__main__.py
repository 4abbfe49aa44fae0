from diffusion_lib.training.loop import main

if __name__ == "__main__":
    main()
