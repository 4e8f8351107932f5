"""Licensed providers who take crypto units and pay merchants in tenge: how we speak with one."""
