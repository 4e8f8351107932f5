// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentRouter} from "../src/interfaces/IPaymentRouter.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {Names} from "../src/Names.sol";
import {Records} from "../src/Records.sol";
import {City} from "./City.sol";
import {HostileToken} from "./HostileTokens.sol";
import {vm} from "./Vm.sol";

/// @notice Whatever people do in whatever order, with a token that comes to deny whom it likes: money is never made,
/// never lost, and leaves the treasury for orders alone.
contract MoneyInvariantTest is City {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint128 internal constant COMMITTED = 1_000_000;

    HostileToken internal hostile;
    Records.Commitment internal commitment;
    uint256 internal minted;
    uint256 internal ordered;
    uint256 internal received;
    uint256 internal count;

    function setUp() public override {
        super.setUp();
        hostile = new HostileToken();
        hostile.approve(address(router), type(uint256).max);
        enactContract("treasury", address(treasury));
        enactAsset("HOST", address(hostile));
        enactShare("sale", 100);
        enactParameter(Names.DIRECT_SETTLEMENT, 1);
        enactAccount("t-host", "HOST", Names.CHAIN, address(treasury));
        enactAccount("builder", "HOST", Names.PAYEE, builder);
        bytes memory record = abi.encode(Records.PROJECT, Records.Project(START, "p", "water", "alatau-gate", 9, ACT));
        enact(record);
        record = abi.encode(
            Records.ALLOCATION, Records.Allocation(START, "a", "b", keccak256(record), "HOST", COMMITTED, ACT, ACT)
        );
        enact(record);
        commitment = Records.Commitment(START, "c", keccak256(record), "builder", COMMITTED, ACT);
        vm.warp(START + 14 days);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](6);
        selectors[0] = this.pay.selector;
        selectors[1] = this.deposit.selector;
        selectors[2] = this.flush.selector;
        selectors[3] = this.execute.selector;
        selectors[4] = this.pull.selector;
        selectors[5] = this.deny.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(this), selectors);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(this);
    }

    // --- what people do ---

    function pay(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, 10_000));
        _mint(address(this), amount);
        IPaymentRouter.Quote memory quote = IPaymentRouter.Quote(
            bytes32(++count), "sale", merchant, address(hostile), amount, uint16(within(share, 100, 10_000)), FOREVER, uint64(count)
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(GATEWAY, digest);
        uint256 before = hostile.balanceOf(address(treasury));
        router.pay(quote, r, compact(v, s));
        received += hostile.balanceOf(address(treasury)) - before;
    }

    function deposit(uint128 amount, uint8 which) external {
        _mint(router.depositAddress(_terms(which)[0]), within(amount, 1, 10_000));
    }

    function flush(uint8 which) external {
        uint256 before = hostile.balanceOf(address(treasury));
        router.flush(_terms(which), address(hostile));
        received += hostile.balanceOf(address(treasury)) - before;
    }

    function execute(uint128 amount) external {
        amount = uint128(within(amount, 1, 20_000));
        bytes32 name = bytes32(bytes.concat("n", bytes2(uint16(0x3030 + (++count % 10) * 256 + (count / 10) % 10))));
        bytes32 commitmentHash = keccak256(abi.encode(Records.COMMITMENT, commitment));
        ITreasury.Execution memory execution;
        execution.commitment = commitment;
        execution.milestone = Records.Milestone(uint64(count), name, commitmentHash, amount, ACT);
        bytes32 hash = keccak256(abi.encode(Records.MILESTONE, execution.milestone));
        execution.certificate = Records.Certificate(START, hash, amount, 1, ACT);
        bytes memory record = abi.encode(Records.CERTIFICATE, execution.certificate);
        execution.certificateApprovals = approve(keys1(CERTIFIER), Records.APPROVE_CERTIFICATE, record, FOREVER);
        execution.order = Records.Order(
            START, name, commitmentHash, commitment.allocationHash, keccak256(record), "t-host", amount, "builder"
        );
        record = abi.encode(Records.ORDER, execution.order);
        execution.orderApprovals = approve(keys1(AUTHORITY), Records.APPROVE_ORDER, record, FOREVER);
        execution.index = add(record);
        publish();
        (execution.headSize, execution.headTime) = (anchor.head().size, anchor.head().time);
        execution.proof = path(execution.index);
        vm.warp(block.timestamp + 1 days);
        treasury.execute(execution);
        ordered += amount;
    }

    function pull(bool fromTreasury) external {
        if (fromTreasury) treasury.pull(builder, address(hostile));
        else router.pull(merchant, address(hostile));
    }

    function deny(uint8 whom) external {
        hostile.deny(whom % 3 == 0 ? merchant : whom % 3 == 1 ? builder : address(0));
    }

    // --- what holds ---

    function invariant_money_is_neither_made_nor_lost() external view {
        uint256 sum = hostile.balanceOf(address(this)) + hostile.balanceOf(merchant) + hostile.balanceOf(builder)
            + hostile.balanceOf(address(treasury)) + hostile.balanceOf(address(router));
        for (uint8 i = 0; i < 3; ++i) {
            sum += hostile.balanceOf(router.depositAddress(_terms(i)[0]));
        }
        same(sum, minted);
    }

    function invariant_the_treasury_pays_orders_and_nothing_else() external view {
        uint256 owed = treasury.credited(address(hostile));
        same(owed, treasury.credit(builder, address(hostile)));
        same(hostile.balanceOf(builder) + owed, ordered);
        same(hostile.balanceOf(address(treasury)), received + owed - ordered);
        same(treasury.paid(keccak256(abi.encode(Records.COMMITMENT, commitment))), ordered);
    }

    function invariant_the_router_keeps_only_what_merchants_may_pull() external view {
        same(hostile.balanceOf(address(router)), router.credit(merchant, address(hostile)));
    }

    function _mint(address to, uint256 amount) private {
        hostile.mint(to, amount);
        minted += amount;
    }

    function _terms(uint8 which) private view returns (IPaymentRouter.Terms[] memory terms) {
        terms = new IPaymentRouter.Terms[](1);
        terms[0] = IPaymentRouter.Terms(bytes32(uint256(which % 3)), "sale", merchant, 250);
    }
}
