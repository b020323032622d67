//! What the halves of stream sockets can do: the same for each kind of socket. What a method does is
//! said once, at the whole stream.
#![forbid(unsafe_code)]

macro_rules! read_methods {
    ($Half:ty, $Stream:literal, $connected:ident, $split:literal, $Addr:ty) => {
        impl $Half {
            #[doc = concat!("As [`", $Stream, "::read`](super::", $Stream, "::read).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, Reading(buffer))
            }

            #[doc = concat!("As [`", $Stream, "::read_vectored`](super::", $Stream, "::read_vectored).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// let mut buffer = [0; 8];
            /// let mut buffers = [std::io::IoSliceMut::new(&mut buffer)];
            /// assert_eq!(reader.read_vectored(&mut buffers).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, ReadingVectored::new(buffers))
            }

            #[doc = concat!("As [`", $Stream, "::read_exact`](super::", $Stream, "::read_exact).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Not cancel-safe, as there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.read_exact(&mut [0; 2]).await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read_exact(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<()>> {
                transfer::read_exact(&self.io, buffer)
            }

            #[doc = concat!("As [`", $Stream, "::poll_read`](super::", $Stream, "::poll_read).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// let mut buffer = [0; 8];
            /// assert_eq!(std::future::poll_fn(|cx| reader.poll_read(cx, &mut buffer)).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
                transfer::poll(&self.io, cx, Reading(buffer))
            }

            #[doc = concat!("As [`", $Stream, "::try_read`](super::", $Stream, "::try_read).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.readable().await?;
            /// assert_eq!(reader.try_read(&mut [0; 8])?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                transfer::attempt(&self.io, Reading(buffer))
            }

            #[doc = concat!("As [`", $Stream, "::readable`](super::", $Stream, "::readable).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.readable().await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
                transfer::ready(&self.io, Direction::Read)
            }

            #[doc = concat!("As [`", $Stream, "::local_addr`](super::", $Stream, "::local_addr).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert!(reader.local_addr().is_ok());
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn local_addr(&self) -> io::Result<$Addr> {
                self.io.local_addr()
            }

            #[doc = concat!("As [`", $Stream, "::peer_addr`](super::", $Stream, "::peer_addr).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert!(reader.peer_addr().is_ok());
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn peer_addr(&self) -> io::Result<$Addr> {
                self.io.peer_addr()
            }
        }

        #[cfg(unix)]
        impl std::os::fd::AsFd for $Half {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }
    };
}

macro_rules! write_methods {
    ($Half:ty, $Stream:literal, $connected:ident, $split:literal, $Addr:ty) => {
        impl $Half {
            #[doc = concat!("As [`", $Stream, "::write`](super::", $Stream, "::write).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(writer.write(b"hi").await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, Writing(buffer))
            }

            #[doc = concat!("As [`", $Stream, "::write_vectored`](super::", $Stream, "::write_vectored).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(writer.write_vectored(&[std::io::IoSlice::new(b"hi")]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, WritingVectored::new(buffers))
            }

            #[doc = concat!("As [`", $Stream, "::write_all`](super::", $Stream, "::write_all).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Not cancel-safe, as there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// writer.write_all(b"hi").await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write_all(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<()>> {
                transfer::write_all(&self.io, buffer)
            }

            #[doc = concat!("As [`", $Stream, "::poll_write`](super::", $Stream, "::poll_write).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(std::future::poll_fn(|cx| writer.poll_write(cx, b"hi")).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
                transfer::poll(&self.io, cx, Writing(buffer))
            }

            #[doc = concat!("As [`", $Stream, "::poll_write_vectored`](super::", $Stream, "::poll_write_vectored).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// let buffers = [std::io::IoSlice::new(b"hi")];
            /// assert_eq!(std::future::poll_fn(|cx| writer.poll_write_vectored(cx, &buffers)).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
                transfer::poll(&self.io, cx, WritingVectored::new(buffers))
            }

            #[doc = concat!("As [`", $Stream, "::try_write`](super::", $Stream, "::try_write).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(writer.try_write(b"hi")?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
                transfer::attempt(&self.io, Writing(buffer))
            }

            #[doc = concat!("As [`", $Stream, "::writable`](super::", $Stream, "::writable).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// writer.writable().await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
                transfer::ready(&self.io, Direction::Write)
            }

            #[doc = concat!("As [`", $Stream, "::shutdown`](super::", $Stream, "::shutdown). Dropping the owned half does that for writing.")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// writer.shutdown(std::net::Shutdown::Write)?;
            /// assert_eq!(server.read(&mut [0; 8]).await?, 0);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.io.shutdown(how)
            }

            #[doc = concat!("As [`", $Stream, "::local_addr`](super::", $Stream, "::local_addr).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert!(writer.local_addr().is_ok());
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn local_addr(&self) -> io::Result<$Addr> {
                self.io.local_addr()
            }

            #[doc = concat!("As [`", $Stream, "::peer_addr`](super::", $Stream, "::peer_addr).")]
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert!(writer.peer_addr().is_ok());
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn peer_addr(&self) -> io::Result<$Addr> {
                self.io.peer_addr()
            }
        }

        #[cfg(unix)]
        impl std::os::fd::AsFd for $Half {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }
    };
}

pub(super) use {read_methods, write_methods};
