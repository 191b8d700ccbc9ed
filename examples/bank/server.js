// The bank: accounts, and a service whose route counts all money.
const express = require('express')
const { actor, sys } = require('kar-sdk')
const { Account } = require('./account')

const app = express()

// POST ["alice","bob"] and get the sum of their balances.
app.post('/audit', express.json(), async (req, res, next) => {
  try {
    const reports = await Promise.all(req.body.map(id => actor.rootCall(actor.proxy('Account', id), 'report')))
    res.json({ total: reports.reduce((sum, r) => sum + r.balance, 0), open: reports.reduce((sum, r) => sum + r.marks, 0) })
  } catch (err) {
    next(err)
  }
})

app.use(sys.actorRuntime({ Account }))
app.use(sys.errorHandler)
sys.h2c(app).listen(process.env.KAR_APP_PORT, '127.0.0.1')
