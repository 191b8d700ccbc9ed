// A service that greets. It is plain Express; the SDK only adds KAR's error format.
const express = require('express')
const { sys } = require('kar-sdk')

const app = express()
app.use(express.text())
app.use(express.json({ strict: false }))

app.post('/helloText', (req, res) => {
  res.type('text').send(`Hello ${req.body}!`)
})

app.post('/helloJson', (req, res) => {
  res.json({ greetings: `Hello ${req.body.name}!` })
})

app.get('/health', (req, res) => res.type('text').send('well'))

app.use(sys.errorHandler)

sys.h2c(app).listen(process.env.KAR_APP_PORT, '127.0.0.1')
