"""The trust audit: does a number hold on new patients? One module for each kind of doubt."""
