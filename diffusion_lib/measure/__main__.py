from diffusion_lib.measure.train_classifier import main

if __name__ == "__main__":
    main()
