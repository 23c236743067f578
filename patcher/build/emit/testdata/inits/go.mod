module inits

go 1.24
