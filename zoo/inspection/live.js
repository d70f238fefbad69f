// The page of `zoo play`.
