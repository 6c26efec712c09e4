//! NVM images on a Linux host: media, and a backend of the programming model.
